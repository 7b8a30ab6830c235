// SPDX-License-Identifier: Apache-2.0
import { paths } from "../dom.js";

/** Decoration; the words stand beside it or in the label. */
export function Icon({ name }: { name: string }) {
  return (
    <svg viewBox="0 0 24 24" class="icon" aria-hidden="true">
      {paths(name).map((data: string) => (
        <path key={data} d={data} />
      ))}
    </svg>
  );
}
