"""Makes images from Dockerfiles: `dockerfile` and `words` read them, `build` carries them out."""
