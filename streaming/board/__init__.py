"""The live ward board: `ward.py` what is known (pure), `feed.py` Kafka, `server.py` HTTP, `page/` what a browser shows."""
