"""The tokenizer: learnt from the kept documents, written in every form the ecosystem reads, loaded from any of them."""
