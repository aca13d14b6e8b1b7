//! The front desk.
