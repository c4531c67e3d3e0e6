// A conversation, whatever carries it. Events are objects in proto3's JSON form.

/**
 * Has one conversation, and goes on by the workflow's id when it loses the connection.
 *
 * - connect() opens a connection: { send(event), events, drop() }
 * - tools: functions by name, which take a text and return one
 * - drops: numbers of events after which to drop the connection on purpose
 * - show(event) gets each event once; note(text) what happens to connections
 */
export async function converse({ connect, goal, tools, drops = [], show, note }) {
  const dropAfter = new Set(drops);
  let workflowId;
  let received = 0;
  let done = false;
  for (let failures = 0; !done; ) {
    const connection = connect();
    connection.send(workflowId === undefined ? { start: { goal } } : { resume: { workflowId, received } });
    try {
      for await (const event of connection.events) {
        failures = 0;
        if (event.number > received) {
          received = event.number;
          show(event);
        }
        workflowId ??= event.started?.workflowId;
        done ||= event.done !== undefined;
        if (dropAfter.delete(event.number)) {
          connection.drop();
          throw new Error(`dropped the connection after event ${event.number}`);
        }
        if (event.toolCall !== undefined) {
          const { callId, tool, argument } = event.toolCall;
          connection.send({ toolResult: { callId, text: await tools[tool](argument) } });
        }
      }
    } catch (error) {
      failures++;
      if (failures === 5) {
        throw error;
      }
      note(`${error.message}; connecting again`);
      await new Promise((resolve) => setTimeout(resolve, 50 * 2 ** failures));
    }
  }
}
