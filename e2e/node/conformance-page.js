// The page in which conformance.js makes its calls. Bundled for it by bundle.js.

import { answerer } from "./conformance-call.js";

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const text = (bytes) => btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""));

window.begin = (descriptors) => {
  const answer = answerer(bytes(descriptors));
  window.answer = async (request) => text(await answer(bytes(request)));
};
