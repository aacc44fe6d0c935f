package redis

import (
	"regexp"
)

// keyName finds the keys of the section redis in the text of an error.
var keyName = regexp.MustCompile(`\bredis\.(mode|addrs|username|password|master_name|sentinel_username|` +
	`sentinel_password|db|tls|prefix|dir|dial_timeout|timeout|durability|replicas|replica_timeout|pool_size)\b`)

// sectionError is an error about another section of the configuration than redis.
type sectionError struct {
	section string
	err     error
}

// Error names the keys of that section.
func (e sectionError) Error() string { return keyName.ReplaceAllString(e.err.Error(), e.section+".$1") }

// Unwrap returns the error as it would be of the section redis.
func (e sectionError) Unwrap() error { return e.err }

// InSection returns err so that it names the keys of another section of the configuration, which has the form of redis.
func InSection(section string, err error) error {
	if err == nil || section == "" || section == "redis" {
		return err
	}
	return sectionError{section, err}
}
