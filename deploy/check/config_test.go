package check

import "testing"

// Every configuration that ships is one that the binary takes.
func TestSluiceTakesTheConfigurations(t *testing.T) {
	t.Parallel()
	for file, dsn := range map[string]string{
		"../compose/sluice.yaml":          "sluice:x@tcp(mariadb:3306)/sluice",
		"../kubernetes/sluice.yaml":       "postgres://sluice:x@db:5432/sluice?sslmode=verify-full",
		root + "/configs/production.yaml": "postgres://sluice:x@db:5432/sluice?sslmode=verify-full",
		root + "/configs/limits.yaml":     "data/sluice.db",
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			runSluice(t, checked(file, dsn), "config", "check", "--config", file)
		})
	}
}

func checked(file, dsn string) []string {
	env := append(secrets(), "SLUICE_DATABASE__DSN="+dsn)
	if file == root+"/configs/limits.yaml" {
		return env[:1] // it runs on one machine: neither a password nor a database elsewhere
	}
	return env
}
