package diskimage_test

import (
	"go/ast"
	"go/build"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// maxLines is the most that any Go file may have, tests too.
const maxLines = 700

// The rooms, and which others each may import: arrows point one way, and
// formats never import each other.
var (
	formats = []string{"raw", "qcow2", "vhd", "vmdk"}

	// The modules that the library requires; true: for tests only.
	modules = map[string]bool{
		"github.com/klauspost/compress": false,
		"golang.org/x/sync":             false,
		"github.com/stretchr/testify":   true,
		"github.com/google/go-cmp":      true,
	}

	// Packages that only tests import, and that may therefore import what
	// only tests may.
	testSupport = []string{"internal/disktest", "internal/imagetest", "internal/peer"}

	// The one package that may import unsafe: it calls the kernel.
	unsafeAllowed = "internal/kernel"
)

// room returns which of the rooms a folder belongs to.
func room(dir string) string {
	first, _, _ := strings.Cut(dir, "/")
	if slices.Contains(formats, first) {
		return "format"
	}
	return first
}

// mayImport reports whether a file in the folder from may import the folder
// to, both from the module's root.
func mayImport(from, to string) bool {
	if from == to {
		return true // an external test
	}
	allowed := map[string][]string{
		".":          {},
		"internal":   {".", "internal"},
		"format":     {".", "internal"},
		"httpsource": {"."},
		"convert":    {".", "internal", "format", "httpsource"},
		"examples":   {".", "internal", "format", "httpsource", "convert", "examples"},
	}
	return slices.Contains(allowed[room(from)], room(to))
}

func TestImportGraph(t *testing.T) {
	for _, f := range tree(t).files {
		forTests := f.test || slices.Contains(testSupport, f.dir)
		for _, imported := range f.imports() {
			inner, ours := strings.CutPrefix(imported, module)
			inner = strings.TrimPrefix(inner, "/")
			if inner == "" {
				inner = "."
			}
			switch first, _, _ := strings.Cut(imported, "/"); {
			case imported == "C":
				t.Errorf("%s: uses cgo", f.path)
			case ours:
				// The root's own tests check the vocabulary against the conformance suite.
				if !mayImport(f.dir, inner) && !(f.test && f.dir == "." && slices.Contains(testSupport, inner)) {
					t.Errorf("%s: %s may not import %s", f.path, f.dir, inner)
				}
				if !forTests && slices.Contains(testSupport, inner) {
					t.Errorf("%s: %s is for tests only", f.path, inner)
				}
			case imported == "unsafe":
				if f.dir != unsafeAllowed {
					t.Errorf("%s: imports unsafe; only %s may", f.path, unsafeAllowed)
				}
			case !strings.Contains(first, "."): // the standard library
			default:
				required, onlyTests := false, false
				for m, testing := range modules {
					if imported == m || strings.HasPrefix(imported, m+"/") {
						required, onlyTests = true, testing
					}
				}
				switch {
				case !required:
					t.Errorf("%s: imports %s: the library requires %v and no more", f.path, imported, slices.Sorted(maps.Keys(modules)))
				case f.dir == "." && !f.test:
					t.Errorf("%s: imports %s: the root imports only the standard library", f.path, imported)
				case onlyTests && !forTests:
					t.Errorf("%s: %s is for tests only", f.path, imported)
				}
			}
		}
	}
}

// TestRequiredModules holds that go.mod asks for the modules that the library
// may use, and no more: whoever imports it carries them.
func TestRequiredModules(t *testing.T) {
	text, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	var required []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "require ")
		if fields := strings.Fields(line); len(fields) == 2 && strings.Contains(fields[0], ".") {
			required = append(required, fields[0])
		}
		require.False(t, strings.HasPrefix(line, "replace "), "%s", line)
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(modules)), required)
}

func TestFileBudget(t *testing.T) {
	for _, f := range tree(t).files {
		if f.lines > maxLines {
			t.Errorf("%s: %d lines; %d at most", f.path, f.lines, maxLines)
		}
	}
}

func TestNoInit(t *testing.T) {
	for _, f := range tree(t).files {
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: has an init function", f.path)
			}
		}
	}
}

// TestReadersAndWritersApart holds that no file of a format package has
// methods of both its Disk and its Writer.
func TestReadersAndWritersApart(t *testing.T) {
	for _, f := range tree(t).files {
		if f.test || room(f.dir) != "format" {
			continue
		}
		has := map[string]bool{}
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok {
				has[receiver(fn)] = true
			}
		}
		if has["Disk"] && has["Writer"] {
			t.Errorf("%s: holds methods of the reader and of the writer", f.path)
		}
	}
}

// TestNoMutableState holds that package-level variables are tables: nothing
// assigns to them or to a part of them, takes their address, or gives them a
// type that exists to be changed.
func TestNoMutableState(t *testing.T) {
	all := tree(t)
	packages := map[string][]*ast.File{}
	for _, f := range all.files {
		if !f.test {
			packages[f.dir] = append(packages[f.dir], f.ast)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		// Only what this package declares is of interest, so imports are
		// not resolved, and files for several systems are checked at once:
		// the errors that this makes mean nothing.
		info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
		config := types.Config{Importer: noImporter{}, Error: func(error) {}, Sizes: types.SizesFor("gc", build.Default.GOARCH)}
		pkg, _ := config.Check(dir, all.fset, packages[dir], info)
		require.NotNil(t, pkg)
		state := func(expr ast.Expr) bool {
			v, ok := info.Uses[root(expr)].(*types.Var)
			return ok && v.Parent() == pkg.Scope()
		}
		complain := func(n ast.Node, what string) {
			t.Errorf("%s: %s", all.fset.Position(n.Pos()), what)
		}
		for _, file := range packages[dir] {
			for _, decl := range file.Decls {
				gen, ok := decl.(*ast.GenDecl)
				if !ok || gen.Tok != token.VAR {
					continue
				}
				for _, spec := range gen.Specs {
					if s := spec.(*ast.ValueSpec); changes(s.Type) {
						complain(s, "a package-level variable of a type that exists to be changed")
					}
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.AssignStmt:
					for _, left := range n.Lhs {
						if n.Tok != token.DEFINE && state(left) {
							complain(n, "assigns to a package-level variable")
						}
					}
				case *ast.IncDecStmt:
					if state(n.X) {
						complain(n, "changes a package-level variable")
					}
				case *ast.UnaryExpr:
					if n.Op == token.AND && state(n.X) {
						complain(n, "takes the address of a package-level variable")
					}
				}
				return true
			})
		}
	}
}

// root returns the identifier that an expression such as x.f[i] starts with.
func root(expr ast.Expr) *ast.Ident {
	for {
		switch e := expr.(type) {
		case *ast.Ident:
			return e
		case *ast.SelectorExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.SliceExpr:
			expr = e.X
		case *ast.StarExpr:
			expr = e.X
		case *ast.ParenExpr:
			expr = e.X
		default:
			return nil
		}
	}
}

// changes reports whether a type is one of sync or sync/atomic.
func changes(typ ast.Expr) bool {
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X
	}
	sel, ok := typ.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && (pkg.Name == "sync" || pkg.Name == "atomic")
}

// noImporter gives an empty package for every import.
type noImporter struct{}

func (noImporter) Import(p string) (*types.Package, error) {
	pkg := types.NewPackage(p, path.Base(p))
	pkg.MarkComplete()
	return pkg, nil
}
