"""Which numbers a quantised weight may be, and which of them is chosen."""
