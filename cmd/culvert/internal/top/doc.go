// Package top shows what a running culvert does in a terminal: the open calls, and a page that
// is drawn again each second. It gets the answers of the admin address, and knows no address.
//
// table.go fits columns into a width, pages.go says what is in them, and screen.go draws the
// page and heeds keys. Text of peers goes through terminal.Text, so that it can't control the
// terminal.
package top
