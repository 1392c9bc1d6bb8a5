-- Lists of deliveries that were delivered, or answered: either may be rare among a million of the other.
CREATE INDEX delivery_closed ON delivery (state) WHERE state IN (2, 3);
