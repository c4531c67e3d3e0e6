import type { ToolResult } from "./gen/demo/demopb/demo_pb.ts";

/** The tools that the server may call. Only this side has their answers. */
const tools: Record<string, () => string> = {
  local_time: () => {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    return `${new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" })} (${zone})`;
  },
  window_size: () => `${innerWidth} × ${innerHeight} pixels`,
  languages: () => navigator.languages.join(", "),
};

export const toolNames = Object.keys(tools);

/** Runs a tool by name. */
export function runTool(name: string): ToolResult["outcome"] {
  const tool = tools[name];
  return tool === undefined ? { case: "error", value: `there is no tool ${name}` } : { case: "output", value: tool() };
}
