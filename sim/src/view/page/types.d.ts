// What the program sends: `View` of sim/src/view/mod.rs. For the type checker alone; nothing of it is shipped.
export interface Field { name: string; value: string; to?: string; at?: number; stale?: boolean }
export interface Thing { id: string; kind: string; name: string; gone?: boolean; fields: Field[] }
export interface Shape { id: string; svg: string }
export interface Choice { index: number; label: string; text: string; site: string; what: string }
export interface Actor { name: string; plan: string[]; fixed: boolean; done: number; choices: Choice[]; waits: string }
export interface Frame { set: Thing[]; drop: string[]; draw: Shape[]; erase: string[]; actors: Actor[] }
export interface Change { change: string; object: string; field?: string; from?: string; to?: string; fields?: { field: string; value: string }[] }
export interface Step {
  step: number; actor: string; cpu: number | null; label: string; function: string | null; file: string | null;
  series: string | null; code: string | null; event: string; changes: Change[]; broke: string[];
}
export interface Promise_ { invariant: string; step: number | null; label: string | null }
export interface View {
  scenario: { name: string; shipped: boolean; title: string; question: string; toml: string };
  design: string; linux: string; heading: string; path: string; command: string; steps: Step[]; violated: Promise_[];
  promises: Record<string, string>; ended: boolean;
  timeline: { width: number; height: number; svg: string }; board: { width: number; height: number };
  frames: Frame[]; mermaid: string; mail: string; picture: string; trace: string;
}
export interface Parted { step: number; why: string }
export interface Shown { view: View; beside: { view: View; parted: Parted | null } | null }
export interface Mistake { message: string; line: number | null; column: number | null }
export interface Catalog {
  scenarios: { name: string; title: string; designs: string[] }[]; designs: { name: string; about: string }[];
}
export interface Counterexample { invariant: string; steps: number; path: string }
export interface Search { states: number; depth: number; done: boolean; found: Counterexample[]; note: string }
export interface Address { scenario: string; toml: string; design: string; beside: string; path: string; at: number }

// Younger than the type checker.
declare global {
  class CompressionStream { constructor(format: "deflate-raw"); readable: ReadableStream<Uint8Array>; writable: WritableStream<Uint8Array> }
  class DecompressionStream { constructor(format: "deflate-raw"); readable: ReadableStream<Uint8Array>; writable: WritableStream<Uint8Array> }
}
