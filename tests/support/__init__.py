"""What the tests stand on: oracles, drawn pictures, odd images, servers."""
