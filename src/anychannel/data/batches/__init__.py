"""How training and evaluation read images: rows in any order, streams, random changes."""
