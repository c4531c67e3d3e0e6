/** Metadata that the backend echoes as headers and as trailers, text and binary. */
export function demoMetadata(): Record<string, string> {
  return { "x-demo-page": "culvert demo", "x-demo-raw-bin": "AAECAwT/" };
}
