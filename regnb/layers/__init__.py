"""What is inside the layers of an image: the files of each layer, and which of them the image still shows.

A layer is read as a stream, or by its table of contents where it has one. Nothing is ever extracted to disk.
"""
