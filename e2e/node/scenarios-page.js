// The page in which scenarios-run.js has the calls made. Bundled for it by bundle.js.

import { obey } from "./scenarios.js";

window.obey = (url) => obey(url, WebSocket);
