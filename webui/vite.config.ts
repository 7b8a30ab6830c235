// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  base: "./",
  resolve: {
    alias: [
      // vtk.js reads VTP meshes with it, which no image is; its Node parts do not run in a browser
      { find: /^xmlbuilder2$/, replacement: here("./src/viewer/stubs/xmlbuilder2.ts") },
      // no WebGPU: 210 KB less
      {
        find: /^@kitware\/vtk\.js\/Rendering\/Profiles\/(.*)$/,
        replacement: "@kitware/vtk.js/Rendering/OpenGL/Profiles/$1",
      },
    ],
  },
  optimizeDeps: {
    exclude: ["@cornerstonejs/dicom-image-loader"],
    include: ["dicom-parser"],
  },
  worker: { format: "es" },
  build: {
    outDir: "dist",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 5000,
    reportCompressedSize: false,
  },
});
