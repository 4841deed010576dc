// Making elements. What is shown may come from files, so that it is set as text and never as markup.

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;
