//! How errors and hints are shown.
