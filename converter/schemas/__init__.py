"""JSON Schemas of what people write and programs read, and the reference of keys made from them."""
