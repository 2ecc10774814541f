-- The mark of a running hour stays until it has ended, with the meters whose first reading in it was looked at: it ended the hour
-- before. Nothing more is to be computed from them before the hour is over, however often they are read (docs/decisions/0015).
ALTER TABLE hour_mark ADD COLUMN looked boolean NOT NULL DEFAULT false;
