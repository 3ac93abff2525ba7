/**
 * The prompt that the page begins with, about 250 tokens.
 *
 * @module
 */

/** A text and a question about it. */
export const DEFAULT_PROMPT =
  `The lighthouse on the northern cape was built in 1871 from granite that was cut on the island itself. For eighty years \
its lamp burned oil. The keeper climbed the 214 steps every evening, filled the lamp, wound the clockwork that turned \
the lens, and wrote the weather into a book: wind, clouds, the state of the sea, and every ship that passed. In winter, \
when storms closed the harbour for weeks, he and his family lived on dried fish, potatoes and bread, and the children \
learned to read from the logbooks of earlier keepers.

In 1951 a cable was laid from the mainland, and an electric lamp replaced the oil. The clockwork was stopped, but it was \
not taken away. In 1987 the light became automatic and the last keeper, Anna Lindqvist, left the island. She had written \
into the book for twenty-six years. Today the logbooks are kept in the museum of the town. Scientists use them, because \
no other place on that coast has a record of the weather that is as long and as complete.

Why do scientists use the logbooks?`;
