-- Who moves relays has to know which meter stands at a measuring point.

GRANT SELECT ON archive_entry TO polyphase_ingest;
