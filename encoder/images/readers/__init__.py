"""One file per shard format, and a table of them.

A reader iterates over the images of a shard, knows cheaply whether the shard has changed and how large it is, and reads one image
back by its place. A new format is a name in `ShardKind`, a file here and an entry in the table; nothing outside branches on the
kind of a shard.
"""
