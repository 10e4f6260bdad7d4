// What a model of few words knows: which words it never learned, and how a sentence may go on.

const WORD = /[\p{L}\p{N}_]+/gu;

/** The words of a text, with where each begins, as the model's tokenizer splits them. */
export function words(text) {
  return [...text.matchAll(WORD)].map((found) => ({ text: found[0], at: found.index }));
}

/** Those of them that are not known; none where the model tells no vocabulary. */
export function unknown(text, vocabulary) {
  if (!vocabulary) return [];
  const known = new Set(vocabulary);
  return words(text).filter((word) => !known.has(word.text.toLowerCase()));
}

/** A template such as "a {red|blue} ball [on a {desert|room} background]" as lines of choices. */
export function lines(template) {
  let found = [[]];
  for (const [, optional, choices, word] of template.matchAll(
    /\[([^\]]*)\]|\{([^}]*)\}|([^\s[\]{}]+)/g,
  )) {
    if (optional !== undefined) {
      const inner = lines(optional);
      found = found.flatMap((line) => [line, ...inner.map((more) => [...line, ...more])]);
    } else {
      found = found.map((line) => [...line, choices === undefined ? [word] : choices.split("|")]);
    }
  }
  return found;
}

/**
 * How a text may go on by a grammar: `next` words, `part` of one that is begun, whether the text
 * `follows` a template so far, and whether it is `whole`.
 */
export function goOn(text, grammar) {
  const typed = words(text).map((word) => word.text.toLowerCase());
  const open = /[\p{L}\p{N}_]$/u.test(text);
  const all = grammar.flatMap(lines);
  const fits = (line, count) => typed.slice(0, count).every((word, i) => line[i]?.includes(word));
  const full = all.filter((line) => fits(line, typed.length));
  const whole = typed.length > 0 && full.some((line) => line.length === typed.length);
  let next = [...new Set(full.flatMap((line) => line[typed.length] ?? []))];
  let part = "";
  if (open && !full.length) {
    part = typed.at(-1);
    const begun = all.filter((line) => fits(line, typed.length - 1));
    const choices = begun.flatMap((line) => line[typed.length - 1] ?? []);
    next = [...new Set(choices.filter((word) => word.startsWith(part)))];
  }
  return { next, part, whole, follows: next.length > 0 || whole };
}

/** The examples that share most words with a text, the nearest first. */
export function nearest(text, examples, count = 3) {
  const typed = new Set(words(text.toLowerCase()).map((word) => word.text));
  const shared = (example) => example.split(/\s+/).filter((word) => typed.has(word)).length;
  return [...examples].sort((a, b) => shared(b) - shared(a)).slice(0, count);
}
