"""Images in, binary codes out: shards, decoding, networks, hash functions and the code files they end in."""
