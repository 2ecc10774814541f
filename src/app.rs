//! Builds the parts; start order and stop order.
