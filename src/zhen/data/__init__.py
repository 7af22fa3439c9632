"""From raw pages to kept documents: read, gate, extract, signals, rules, duplicates."""
