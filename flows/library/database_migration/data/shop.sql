CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT);
INSERT INTO customer VALUES (1, 'Nordwind Trading', 'Hamburg');
INSERT INTO customer VALUES (2, 'Aurora Books', 'Oslo');
INSERT INTO customer VALUES (3, 'Kite & Co.', NULL);
CREATE TABLE invoice (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customer, cents INTEGER NOT NULL);
INSERT INTO invoice VALUES (100, 1, 129900);
INSERT INTO invoice VALUES (101, 3, 4550);
PRAGMA user_version = 1;
