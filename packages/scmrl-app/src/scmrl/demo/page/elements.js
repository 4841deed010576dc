// Creates elements. Text may come from files, so it is set as text content and never as markup.

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;
