// SPDX-License-Identifier: Apache-2.0
// Stands for a library that the viewer never reaches; see vite.config.ts.
export const create = () => {
  throw new Error("XML meshes are not read here");
};
export default { create };
