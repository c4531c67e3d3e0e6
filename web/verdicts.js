// Writes src/doctor/verdicts.ts: the rows of the doctor's table (client/doctor/verdicts.json) that the judge of a page
// says. node verdicts.js --check fails if the file isn't what this would write.

import { readFileSync, writeFileSync } from "node:fs";

const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8").replaceAll("\r\n", "\n");
const judge = read("src/doctor/judge.ts");
const rows = JSON.parse(read("../client/doctor/verdicts.json")).filter(({ id }) => judge.includes(`"${id}"`));
// A page can't test native gRPC, so it can't tell programs which way to take.
const shown = ({ id, ...row }) => `  ${JSON.stringify(id)}: ${JSON.stringify({ ...row, ...(row.programs && { programs: "auto" }) })},\n`;
const text = `// Made by verdicts.js from client/doctor/verdicts.json.

export const verdicts = {
${rows.map(shown).join("")}};
`;
const file = "src/doctor/verdicts.ts";
if (!process.argv.includes("--check")) {
  writeFileSync(new URL(file, import.meta.url), text);
} else if (read(file) !== text) {
  console.error(`web/${file} isn't what client/doctor/verdicts.json has: run npm run verdicts`);
  process.exitCode = 1;
}
