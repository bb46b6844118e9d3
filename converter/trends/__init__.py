"""An experiment over its nights: `history.sqlite`, `history.html`, and what is told of them."""
