package auth

// Role is what the bearer of an admin token may do.
type Role string

// The roles, each of which may do what those before it may.
const (
	RoleViewer   Role = "viewer"   // reads
	RoleOperator Role = "operator" // and does what can be undone
	RoleAdmin    Role = "admin"    // and everything else
)

func (r Role) known() bool { return r.rank() > 0 }

func (r Role) rank() int {
	switch r {
	case RoleViewer:
		return 1
	case RoleOperator:
		return 2
	case RoleAdmin:
		return 3
	}
	return 0
}

// Covers reports whether r may do what needs need.
func (r Role) Covers(need Role) bool { return r.rank() >= need.rank() }
