"""The supervisor of `preheat up --detach`."""

from preheat.cluster import serve_in_background

serve_in_background()
