package model

// Instances returns all instances to check: the model itself within several bounds, then each planted fault.
func Instances() []Instance {
	return append(sound(), broken()...)
}

// sound returns the instances without a fault, each small enough for a complete check.
func sound() []Instance {
	return []Instance{
		{Name: "failover", Defines: "-DT=2 -DF=1 -DN=1",
			Says: "two tickets for one unit, a failover with loss, also in the middle of a rebuild"},
		{Name: "failover, two workers", Defines: "-DT=2 -DW=2 -DF=1",
			Says: "two tickets for one unit, two workers, a failover with loss"},
		{Name: "failover, two units", Defines: "-DT=2 -DS=2 -DF=1",
			Says: "two tickets for two units, a failover with loss"},
		{Name: "two keepers", Defines: "-DT=1 -DK=2 -DF=1 -DC=1",
			Says: "two reconcilers, one of which dies, and a failover with loss"},
		{Name: "two failovers", Defines: "-DT=1 -DF=2 -DN=1 -DE=5",
			Says: "one ticket, two failovers with loss"},
		{Name: "cancel", Defines: "-DT=1 -DF=1 -DN=1 -DCANCEL",
			Says: "one ticket that its owner cancels, before or after it is an order, a failover with loss"},
		{Name: "cancel, two tickets", Defines: "-DT=2 -DN=1 -DCANCEL",
			Says: "two tickets for one unit, their owners cancel, a rebuild"},
		{Name: "database", Defines: "-DT=2 -DD=1 -DN=1",
			Says: "two tickets for one unit, the database loses its last commits, also in the middle of a rebuild"},
		{Name: "older data", Defines: "-DT=2 -DF=1 -DSWAP",
			Says: "Redis' data become older, with or without a new identity"},
	}
}

// broken returns the instances with a planted fault, each within the smallest bounds that show it.
func broken() []Instance {
	return []Instance{
		{Name: "settle without lease", Defines: "-DT=1 -DN=1 -DM_NO_LEASE", Broken: true,
			Says: "a worker that comes late settles all the same"},
		{Name: "no epoch check", Defines: "-DT=1 -DF=1 -DM_NO_EPOCH", Broken: true,
			Says: "the transaction takes a unit for a ticket of a line that was rebuilt"},
		{Name: "stock := ledger", Defines: "-DT=2 -DN=1 -DM_BLIND", Broken: true,
			Says: "a rebuild forgets the tickets that survived"},
		{Name: "no fence", Defines: "-DT=2 -DF=1 -DM_NO_FENCE", Broken: true,
			Says: "scripts run on a server whose data nobody has compared"},
		{Name: "settle before commit", Defines: "-DT=1 -DM_SETTLE_FIRST", Broken: true,
			Says: "an order is told confirmed before it is in the database"},
		{Name: "no order key", Defines: "-DT=1 -DS=2 -DM_NO_KEY", Broken: true,
			Says: "a ticket that is delivered again makes another row"},
		{Name: "scripts on replicas", Defines: "-DT=2 -DF=1 -DM_SCRIPT_ON_REPLICA", Broken: true,
			Says: "a server that knows the scripts counts as compared (the fence before this one)"},
		{Name: "gate without identity", Defines: "-DT=2 -DF=1 -DN=1 -DM_GATE_ANYWHERE", Broken: true,
			Says: "a rebuild goes on after a failover in the middle of it"},
		{Name: "nothing put back", Defines: "-DT=1 -DD=1 -DM_NO_RESTORING", Broken: true,
			Says: "a rebuild drops confirmed orders that the database lost"},
		{Name: "lost while put back", Defines: "-DT=1 -DD=1 -DN=1 -DM_FORGET", Broken: true,
			Says: "the database loses commits between the putting back and the reading of the ledger"},
		{Name: "failed stays failed", Defines: "-DT=1 -DD=1 -DN=1 -DM_FAILED_STAYS", Broken: true,
			Says: "a late worker fails a confirmed order that the database lost, and a rebuild believes it"},
		{Name: "no revision", Defines: "-DT=2 -DF=1 -DSWAP -DM_NO_REVISION", Broken: true,
			Says: "callers hand in no revision, and the data become older under one identity"},
		{Name: "released twice", Defines: "-DT=1 -DCANCEL -DM_RELEASE_ANY", Broken: true,
			Says: "a release that is repeated gives the unit back again"},
		{Name: "held unit freed at once", Defines: "-DT=2 -DCANCEL -DM_FREE_AT_ONCE", Broken: true,
			Says: "the unit of a cancelled ticket is sold again although its worker has made an order of it"},
		{Name: "order of a cancelled ticket stays", Defines: "-DT=1 -DCANCEL -DM_ORDER_STAYS", Broken: true,
			Says: "nobody ends the order that a worker has made of a ticket before its owner cancelled it"},
		{Name: "failure of a cancelled ticket stays", Defines: "-DT=1 -DN=1 -DCANCEL -DM_FAILURE_STAYS", Broken: true,
			Says: "nobody corrects the row of a ticket that a worker failed and its owner cancelled"},
		{Name: "order left a ticket", Defines: "-DT=1 -DN=1 -DCANCEL -DM_LEFT_A_TICKET", Broken: true,
			Says: "a rebuild leaves a ticket that is an order for its owner to cancel"},
	}
}
