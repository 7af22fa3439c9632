"""The built-in bilingual web: a small invented world, its pages as a crawl, and the answer key."""
