-- A new line pauses 20 ms between an answer and the next question: at 2400 baud 50 ms cost a fifth of the line's time.
-- A meter that needs more gets it by its model, or learns it.
ALTER TABLE dtu ALTER COLUMN pause_ms SET DEFAULT 20;
