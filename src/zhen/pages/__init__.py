"""The look of every page: parts that are put together as HTML or Markdown, the style, charts."""
