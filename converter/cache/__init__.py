"""The content-addressed store of earlier results: its entries, and looking after them."""
