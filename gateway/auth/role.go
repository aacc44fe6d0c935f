package auth

// Role says what the bearer of an admin token may do.
type Role string

// The roles. Each includes those before it.
const (
	RoleViewer   Role = "viewer"   // reads
	RoleOperator Role = "operator" // and makes changes that can be undone
	RoleAdmin    Role = "admin"    // and everything else
)

func (r Role) isKnown() bool { return r.rank() > 0 }

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

// Covers reports whether r includes need.
func (r Role) Covers(need Role) bool { return r.rank() >= need.rank() }
