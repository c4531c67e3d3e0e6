/** A queue turns callbacks into an async iterator. */
export class Queue {
  #items = [];
  #wake = () => {};

  push(value) {
    this.#add({ value });
  }
  end() {
    this.#add({ done: true });
  }
  fail(error) {
    this.#add({ error });
  }

  #add(item) {
    this.#items.push(item);
    this.#wake();
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      while (this.#items.length === 0) {
        await new Promise((resolve) => {
          this.#wake = resolve;
        });
      }
      const { value, done, error } = this.#items.shift();
      if (error !== undefined) {
        throw error;
      }
      if (done) {
        return;
      }
      yield value;
    }
  }
}
