"""One module per command of the wardwatch command line; each exports a click command named command."""
