-- Summaries of slots take whole hours and days from the roll-ups; which of them are behind, the marks say.

GRANT SELECT ON meter_hour_dirty TO polyphase_app;
CREATE INDEX meter_hour_dirty_hour ON meter_hour_dirty (hour);
