"""A user's own music: scanned into a store, tagged, put into playlists, searched, learned from."""
