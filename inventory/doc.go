// Package inventory owns sales and their stock: the catalogue and the ledger
// in the database, the keeper that holds every line in Redis in agreement
// with them, the book gateways read instead of the stores, and the audit that
// proves the agreement.
package inventory
