CREATE TABLE payment (
    id INTEGER PRIMARY KEY,
    invoice INTEGER NOT NULL REFERENCES invoice,
    cents INTEGER NOT NULL CHECK (cents > 0),
    paid_on TEXT NOT NULL
);
CREATE INDEX payment_by_invoice ON payment (invoice);
