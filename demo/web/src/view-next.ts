import { find } from "./dom.ts";

/** Runs the button that copies the command. */
export function showNext(): void {
  const command = find("serve-command", HTMLElement);
  const button = find("copy", HTMLButtonElement);
  const status = find("copy-status", HTMLElement);

  function say(label: string, text: string): void {
    button.textContent = label;
    status.textContent = text;
  }

  async function copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(command.textContent ?? "");
      say("Copied", "The command is in the clipboard.");
    } catch {
      // Browsers have no clipboard on a page from another machine over HTTP.
      getSelection()?.selectAllChildren(command);
      say("Selected", "The command is selected. Copy it with the keyboard.");
    }
  }

  button.addEventListener("click", () => void copy());
  button.addEventListener("blur", () => say("Copy", ""));
}
