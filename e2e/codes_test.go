package e2e

import (
	"fmt"

	"sluice/internal/testkit/rewrite"
)

// code is what some engine answers when a statement is not to blame.
type code struct {
	code, state string
	text        string
	on          string // which commands it answers
	hangUp      bool   // and then closes the connection
}

// codesOf returns answers of proxies and clusters that are not here, one of each
// number, for a driver.
func codesOf(driver string) []code {
	if driver == "postgres" {
		return postgresCodes()
	}
	return mysqlCodes()
}

func mysqlCodes() []code {
	const (
		begin, write, commit = rewrite.OnBegin, rewrite.OnWrite, rewrite.OnCommit
		connect, all         = rewrite.OnConnect, rewrite.OnAny
	)
	return []code{
		// ProxySQL
		{"9001", "HY000", "Max connect timeout reached while reaching hostgroup 10 after 10000ms", all, false},
		{"9002", "HY000", "TiKV server timeout", all, false},
		{"9005", "HY000", "Region is unavailable", write, false},
		{"9006", "HY000", "ProxySQL Error: connection is locked to hostgroup 10 but trying to reach 20", write, false},
		// TiDB
		{"9007", "HY000", "Write conflict, txnStartTS=1, conflictStartTS=2, try again later", commit, false},
		{"8027", "HY000", "Information schema is out of date: schema failed to update in 1 lease", write, false},
		{"8028", "HY000", "Information schema is changed during the execution of the statement", commit, false},
		// MaxScale
		{"1815", "HY000", "Internal error: Routing failed. Session is closed.", all, true},
		{"2003", "HY000", "Authentication with backend failed. Session will be closed.", begin, true},
		{"1927", "70100", "Connection killed by MaxScale: Router could not recover from connection errors", all, true},
		// Vitess
		{"1105", "HY000", "vttablet: rpc error: code = Unavailable desc = reparenting", write, false},
		// group replication
		{"3100", "HY000", "Error on observer while running replication hook 'before_commit'.", commit, false},
		{"3101", "40000", "Plugin instructed the server to rollback the current transaction.", commit, false},
		{"3118", "HY000", "Access denied for user 'shop'@'%'. Account is locked.", connect, true},
		// Galera
		{"1047", "08S01", "WSREP has not yet prepared node for application use", all, false},
		{"1213", "40001", "Deadlock found when trying to get lock; try restarting transaction", commit, false},
		{"3", "HY000", "Error writing file './shop/orders.ibd' (Errcode: 28 \"No space left\")", write, false},
		{"1016", "HY000", "Can't open file: './shop/orders.ibd' (errno: 24 \"Too many open files\")", all, false},
		{"1036", "HY000", "Table 'orders' is read only", write, false},
		{"1040", "08004", "Too many connections", connect, true},
		{"1130", "HY000", "Host '10.0.0.7' is not allowed to connect to this MariaDB server", connect, true},
		{"1153", "08S01", "Got a packet bigger than 'max_allowed_packet' bytes", write, true},
		{"1598", "HY000", "Binary logging not possible. Message: Writing one row failed", commit, false},
		{"1665", "HY000", "Cannot execute statement: impossible to write to binary log", write, false},
		{"1785", "HY000", "Statement violates GTID consistency", write, false},
		{"1820", "HY000", "You must SET PASSWORD before executing this statement", all, false},
		{"1862", "HY000", "Your password has expired. To log in you must change it", connect, true},
		{"3159", "HY000", "Connections using insecure transport are prohibited", connect, true},
	}
}

func postgresCodes() []code {
	const (
		begin, write, commit = rewrite.OnBegin, rewrite.OnWrite, rewrite.OnCommit
		connect, all         = rewrite.OnConnect, rewrite.OnAny
	)
	return []code{
		// PgBouncer
		{"08P01", "", "server conn crashed?", all, true},
		{"08006", "", "connection to the database was lost", begin, true},
		{"0A000", "", "cached plan must not change result type", write, false},
		{"25006", "", "cannot execute INSERT in a read-only transaction", write, false},
		{"26000", "", "prepared statement \"stmtcache_1\" does not exist", write, false},
		{"28000", "", "role \"shop\" is not permitted to log in", connect, true},
		{"40001", "", "could not serialize access due to concurrent update", commit, false},
		{"53100", "", "could not extend file \"base/1/1\": No space left on device", write, false},
		{"53300", "", "sorry, too many clients already", connect, true},
		{"57P01", "", "terminating connection due to administrator command", all, true},
		{"57P03", "", "the database system is starting up", connect, true},
		{"58030", "", "could not write to file \"pg_wal/xlogtemp\": Input/output error", commit, false},
		{"XX000", "", "cache lookup failed for relation 4711", write, false},
	}
}

// codeNamed returns the refusal that answers with a code.
func codeNamed(driver, name string) (rewrite.Refusal, error) {
	for _, c := range codesOf(driver) {
		if c.code == name {
			return rewrite.Refusal{Code: c.code, State: c.state, Text: c.text, On: c.on, HangUp: c.hangUp}, nil
		}
	}
	return rewrite.Refusal{}, fmt.Errorf("no code %s of %s is known here", name, driver)
}
