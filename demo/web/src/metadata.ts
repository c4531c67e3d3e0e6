/** Metadata that comes back as headers and as trailers, text and binary. */
export function demoMetadata(): Record<string, string> {
  return { "x-demo-page": "culvert demo", "x-demo-raw-bin": "AAECAwT/" };
}
