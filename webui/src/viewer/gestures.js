// SPDX-License-Identifier: Apache-2.0
// Mouse, touch and pen on the picture: one finger or left drag scrolls, two fingers or right drag
// change the window, the wheel scrolls.

const PIXELS_PER_IMAGE = 14;
const WHEEL_PER_IMAGE = 40;
const LINE_PIXELS = 40;

/** Listen on `canvas`; `scroll(steps)` and `window(dx, dy, phase)` are called. Returns the end. */
export function gestures(canvas, { scroll, window }) {
  const pointers = new Map();
  let kind = "";
  let rest = 0;
  let middle = null;
  let wheel = 0;

  const center = () => {
    const all = [...pointers.values()];
    return { x: all.reduce((sum, p) => sum + p.x, 0) / all.length, y: all.reduce((sum, p) => sum + p.y, 0) / all.length };
  };

  const down = (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const windowing = pointers.size === 2 || event.button === 2;
    if (kind === "window" && !windowing) return;
    kind = windowing ? "window" : pointers.size === 1 ? "scroll" : kind;
    rest = 0;
    middle = center();
    if (kind === "window") window(0, 0, "begin");
  };

  const move = (event) => {
    if (!pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const now = center();
    const dx = now.x - middle.x;
    const dy = now.y - middle.y;
    if (kind === "window") {
      window(dx, dy, "move");
    } else {
      rest += dy;
      const steps = Math.trunc(rest / PIXELS_PER_IMAGE);
      rest -= steps * PIXELS_PER_IMAGE;
      if (steps) scroll(steps);
    }
    middle = now;
  };

  const up = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (kind === "window") window(0, 0, "end");
    // a finger that stays must not turn a two-finger gesture into a scroll
    kind = pointers.size ? "none" : "";
    if (pointers.size) middle = center();
  };

  const roll = (event) => {
    event.preventDefault();
    const scale = event.deltaMode === 0 ? 1 : LINE_PIXELS;
    wheel += event.deltaY * scale;
    const steps = Math.trunc(wheel / WHEEL_PER_IMAGE);
    wheel -= steps * WHEEL_PER_IMAGE;
    if (steps) scroll(Math.sign(steps) * Math.min(Math.abs(steps), 5));
  };

  const noMenu = (event) => event.preventDefault();
  const listeners = [["pointerdown", down], ["pointermove", move], ["pointerup", up], ["pointercancel", up], ["wheel", roll], ["contextmenu", noMenu]];
  for (const [name, listener] of listeners) canvas.addEventListener(name, listener, { passive: false });
  return () => {
    for (const [name, listener] of listeners) canvas.removeEventListener(name, listener);
  };
}
