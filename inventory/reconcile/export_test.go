package reconcile

// RebuildLease is how long a rebuild stays reserved for an instance that is not heard of.
const RebuildLease = rebuildLease
